"""Several instances of one model behind one engine: where requests go, and how many there are."""
