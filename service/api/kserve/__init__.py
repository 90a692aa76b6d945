"""The Open Inference Protocol (V2) over REST and, with the extra `grpc`, over gRPC; with Triton's extensions."""

import os

# Before gRPC is imported: otherwise it logs a line whenever a child process is started during a call. Our child
# processes (`service.api.large_requests`) run other programs, without gRPC.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
