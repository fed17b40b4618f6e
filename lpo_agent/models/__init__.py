"""Language models behind one Protocol, with layers for retry, rate limit, budget and record."""
