"""Files for browsers and for Node, and what serves the former.

- ``client.js`` is the client as an ES module, ``client.d.ts`` its types;
- ``publisher.js`` and ``publisher.d.ts`` are for the HTTP API: they publish;
- ``style.css`` is how pages look, ``elements.js`` builds what they show, ``rows.js`` is a list for very many
  rows, ``icon.svg`` the icon;
- `localful_ws.web.files` serves them, and a page's own.
"""
