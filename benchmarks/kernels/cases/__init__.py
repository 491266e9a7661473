"""What is measured of each operation, one file each."""
