"""Crash durability: what track() has returned from, on disk until it is settled.

From the ground up:

    format       records <-> bytes, as docs/reference/journal-format.md has it
    file_system  what a file system promises, and a file read safely
    folder       the names and the sizes of the files in a journal folder
    ownership    which process owns which chain of files: a POSIX lock
    store        how bytes get into a file: through a map, or by write(2)
    backlog      the records of one segment that are on disk alone
    reader       what stands in a segment and in a chain: the one reader, for adoption and commands
    segment      one file: written by this process, or recovered from a dead one
    log          the segments of one owner: append, rotate, settle, delete
    notices      what the application should hear of
    space_limit  max_journal_bytes
    adoption     taking over what dead processes left
    journal      the facade: what the engine and the delivery pass call
"""
