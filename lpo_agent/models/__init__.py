"""Language models behind one Protocol, with retry, limits, budget and record as layers."""
