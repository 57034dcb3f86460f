"""`fedplant doctor`: configuration, machine and cluster looked at before anything runs; each finding says what to do."""
