"""Process control: the server as a child of a test or a program. Needs the standard library alone."""
