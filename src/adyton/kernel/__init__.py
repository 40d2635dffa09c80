"""The words everyone shares. No module in here does I/O, reads the clock or draws a random number by itself."""
