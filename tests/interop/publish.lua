-- wrk publishes: wrk -s publish.lua <url> -- <key>
function init(arguments)
   wrk.method = "POST"
   wrk.body = '{"event":"item-create","user":"ada","vault":"v1"}'
   wrk.headers["Authorization"] = "Bearer " .. arguments[1]
end

function done(summary, latency)
   local errors = summary.errors
   io.write(string.format("\nresult %d %d %d %d %d %d\n", summary.requests,
      errors.connect, errors.read, errors.write, errors.status, errors.timeout))
end
