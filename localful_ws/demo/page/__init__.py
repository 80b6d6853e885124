"""The files of the demo's page; `localful_ws.demo.site` serves them."""
