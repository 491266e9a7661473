"""The same random weights through inferd and its peers, run by run in turns. See README.md."""
