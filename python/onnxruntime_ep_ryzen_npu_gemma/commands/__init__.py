"""The commands of `ryzen-npu-gemma`, one a file: `add_parser(subparsers)` and `main(args) -> int`."""
