"""The decorator with all of its parameters at their defaults."""

from chisel import capture_trace


@capture_trace(
    trace_name=None,  # the trace file is then named after the function: my_function.json
    record_shapes=False,
    profile_memory=False,
)
def my_function():
    pass


if __name__ == "__main__":
    my_function()
    print("my_function was called")
