"""What can go wrong with the embedded stack, as part of the one tree."""

from chisel_shared.contract.errors import ServiceError


class LocalStackError(ServiceError):
    """The local stack cannot run on this machine."""

    code = "local_stack"
