"""torch's profiler as a capture uses it, in every version of torch and without side effects on CUDA."""

import os
import sys
from contextlib import suppress
from typing import Any

from chisel.trace.capture import Options
from chisel.trace.saying import say_once

_ASK_THE_DRIVER = "PYTORCH_NVML_BASED_CUDA_CHECK"
"""Lets torch count GPUs without CUDA. CUDA once asked is of no use in processes that are forked later."""


def load_torch() -> Any:
    """torch, of which we use parts that it does not declare as public."""
    import torch

    return torch


def cuda_is_there(torch: Any) -> bool:
    """Whether there is a GPU to record; never the one who initialises CUDA."""
    if getattr(torch.cuda, "is_initialized", lambda: False)():
        return True
    before = os.environ.get(_ASK_THE_DRIVER)
    os.environ[_ASK_THE_DRIVER] = "1"
    try:
        return bool(torch.cuda.is_available())
    finally:
        if before is None:
            del os.environ[_ASK_THE_DRIVER]
        else:
            os.environ[_ASK_THE_DRIVER] = before


def make_profiler(torch: Any, options: Options, *, cuda: bool) -> Any:
    """One that has not started."""
    activities = [torch.profiler.ProfilerActivity.CPU]
    if cuda:
        activities.append(torch.profiler.ProfilerActivity.CUDA)
    more = {}
    if options.all_threads:
        try:
            more["experimental_config"] = torch._C._profiler._ExperimentalConfig(profile_all_threads=True)
        except (AttributeError, TypeError):
            say_once("this version of torch cannot record all threads")
    return torch.profiler.profile(
        activities=activities,
        record_shapes=options.record_shapes,
        profile_memory=options.profile_memory,
        with_stack=options.with_stack,
        **more,
    )


def leave_profiler(torch: Any, *, with_stack: bool) -> None:
    """In a process that was forked while the profiler was on: record no more. Stopping could wait for threads
    that only the parent has."""
    with suppress(Exception):
        torch._C._autograd._clear_callbacks()
        if with_stack:
            sys.setprofile(None)


def stop_profiler(torch: Any, profiler: Any) -> None:
    """Stop it. torch waits for the GPU then, and where nobody has used CUDA would initialise it to do so."""
    with suppress(Exception):
        if not torch.cuda.is_initialized():
            profiler.profiler.use_device = None
    profiler.stop()
