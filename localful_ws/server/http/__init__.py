"""An HTTP/1.1 server for ASGI applications on Trio, and the application of the internal port."""
