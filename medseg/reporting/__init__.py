"""Tables, pictures and the self-contained HTML report. Everything here returns text or bytes and opens no file for writing."""
