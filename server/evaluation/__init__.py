"""What measures alignment: data sets, judges and their validation. Prints nothing; commands and benchmarks do."""
