"""The downstream reader: whatever reads results and never writes a job."""
