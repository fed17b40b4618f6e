"""Workers: processes on other machines that make the model calls of runs, over NATS; both sides are here."""
