"""How runs are carried out: opened, observed, booked, stopped, and gone on with."""
