"""What every long-running process of ours needs: signals, the service manager, child processes, retries."""
