"""Three traced functions in one script: three trace files."""

from chisel import capture_trace


@capture_trace(trace_name="preprocess")
def preprocess(data):
    # Data preprocessing
    mean = sum(data) / len(data)
    return [value - mean for value in data]


@capture_trace(trace_name="train")
def train(data):
    # Model training: the slope of the line through the origin that fits best
    xs = range(len(data))
    return sum(x * y for x, y in zip(xs, data, strict=True)) / sum(x * x for x in xs)


@capture_trace(trace_name="evaluate")
def evaluate(data):
    # Model evaluation
    slope = train(data)
    return sum((slope * x - y) ** 2 for x, y in enumerate(data))


if __name__ == "__main__":
    centred = preprocess([float(n) for n in range(10)])
    print(f"Slope: {train(centred):.3f}")
    print(f"Squared error: {evaluate(centred):.3f}")
