-- The load, for wrk: POSTs that go through the users in turn, each with a nonce of its own.
-- Arguments: the file of tokens (one a line), the path, the body with NONCE in it, the run's name.

local heads, count = {}, 0
local before, after, run

function init(args)
  local path, body = args[2], args[3]
  run = args[4]
  local from, to = body:find("NONCE", 1, true)
  before, after = body:sub(1, from - 1), body:sub(to + 1)
  for token in io.lines(args[1]) do
    heads[#heads + 1] = "POST " .. path .. " HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer " .. token
      .. "\r\nContent-Type: application/json\r\nContent-Length: "
  end
end

function request()
  count = count + 1
  local body = before .. run .. ":" .. count .. after
  return heads[count % #heads + 1] .. #body .. "\r\n\r\n" .. body
end

function done(summary, latency)
  io.write(string.format(
    '\n{"requests":%d,"microseconds":%d,"refused":%d,"broken":%d,"p50":%d,"p95":%d,"p99":%d}\n',
    summary.requests, summary.duration, summary.errors.status,
    summary.errors.connect + summary.errors.read + summary.errors.write + summary.errors.timeout,
    latency:percentile(50), latency:percentile(95), latency:percentile(99)))
end
