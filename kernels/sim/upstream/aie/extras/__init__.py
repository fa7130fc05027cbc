"""The few arithmetic helpers of eudsl-python-extras that designs need."""
