"""The search methods: what each gathers as evidence, proposes and keeps."""
