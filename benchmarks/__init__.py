"""What framesrv and snapd cost, each figure beside something measured in the same run. See `run.py`."""
