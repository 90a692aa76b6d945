"""Written by protoc from open_inference.proto (`make proto`); neither edited nor checked."""
