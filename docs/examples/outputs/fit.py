"""Writes what it found into ./outputs: a table, a model, and a log in a folder of its own."""

import csv
import json
from pathlib import Path

outputs = Path("outputs")
(outputs / "logs").mkdir(parents=True, exist_ok=True)

x, rate = 0.0, 0.1
with (outputs / "losses.csv").open("w", newline="") as table, (outputs / "logs" / "fit.txt").open("w") as log:
    rows = csv.writer(table)
    rows.writerow(("step", "loss"))
    for step in range(20):
        loss = (x - 3.0) ** 2
        rows.writerow((step, f"{loss:.6f}"))
        print(f"step {step}: {loss:.6f}", file=log)
        x -= rate * 2 * (x - 3.0)

(outputs / "model.json").write_text(json.dumps({"x": round(x, 6)}))
print(f"x = {x:.6f}")
