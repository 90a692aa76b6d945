"""The Open Inference Protocol (V2) over REST and, with the extra `grpc`, over gRPC; with Triton's extensions."""

import os

# Before gRPC is imported, which otherwise writes a line of its own to the log whenever a child process is started while
# a call is under way. The children that there are (`service.api.large_requests`) are other programs, with no gRPC.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
