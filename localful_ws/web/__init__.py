"""Files for browsers: ``client.js`` is the client as an ES module, ``client.d.ts`` its types."""
