"""Tell a run on a backend from a run at home, and name the job."""

import os

if os.environ.get("CHISEL_BACKEND_RUN") == "1":
    print("🚀 Running on cloud GPU!")
    job_id = os.environ.get("CHISEL_JOB_ID")
    print(f"Job ID: {job_id}")
else:
    print("💻 Running locally")
