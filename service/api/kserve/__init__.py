"""The Open Inference Protocol (V2) over REST and gRPC, with Triton's extensions."""
