"""The program that `process.run_in_fresh_process` starts: it measures one job."""

from cifar_bench.timing import process

process.main()
