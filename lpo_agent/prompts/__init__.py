"""The meta-prompts, one Markdown file a role, and their strict loader."""
