"""The inference protocols of KServe: V1, and V2 (the Open Inference Protocol), over HTTP."""
