"""The networks: nn.Modules only. No files, no training, no printing."""
