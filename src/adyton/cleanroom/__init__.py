"""Two parties learn from joined data; each row stays readable to its owner and to an attested enclave."""
