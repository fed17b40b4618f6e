"""APE, APO (ProTeGi) and PE2: beam search over whole prompts, with or without marked edits."""
