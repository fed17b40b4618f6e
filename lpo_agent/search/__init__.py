"""Who decides: branches that edit, a coordinator that keeps the books."""
