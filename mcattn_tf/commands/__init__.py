"""Commands: from flags to settings to one call. Each has `main(arguments)`, also for a process."""
