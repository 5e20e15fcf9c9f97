"""What faults and hostile files do to linops: files tried, commands killed, and a page of their outcomes."""
