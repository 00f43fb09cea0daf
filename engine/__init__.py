"""What a build writes and a runtime reads: the deployment file and the engine directory."""
