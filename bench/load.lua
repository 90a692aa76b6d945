-- wrk's part of bench/load.py: sends the bodies of a folder in turns, and prints what was seen as one line of JSON.
--   wrk … -s load.lua URL -- FOLDER COUNT PLACEHOLDER NAME:VALUE…
-- PLACEHOLDER stands in bodies and headers for what is new in every request: a part of its boundary and of its file name.

local requests = {} -- each is the list of the pieces between two PLACEHOLDERs
local last = 0
local sent = 0
local run = ""

local function split(text, placeholder)
  local pieces, start = {}, 1
  while true do
    local from, to = text:find(placeholder, start, true)
    pieces[#pieces + 1] = text:sub(start, from and from - 1)
    if not from then
      return pieces
    end
    start = to + 1
  end
end

function init(args)
  local folder, count, placeholder, headers = args[1], tonumber(args[2]), args[3], {}
  for number = 4, #args do
    local name, value = args[number]:match("^([^:]+):(.*)$")
    headers[name] = value
  end
  for number = 0, count - 1 do
    local file = assert(io.open(folder .. "/" .. number, "rb"))
    local body = file:read("*a")
    file:close()
    requests[#requests + 1] = split(wrk.format("POST", nil, headers, body), placeholder)
  end
  local random = assert(io.open("/dev/urandom", "rb"))
  run = random:read(4):gsub(".", function(byte) return string.format("%02x", byte:byte()) end)
  random:close()
end

function request()
  last = last % #requests + 1
  sent = sent + 1
  local pieces = requests[last]
  if #pieces == 1 then
    return pieces[1]
  end
  return table.concat(pieces, string.format("%s%08x", run, sent))
end

function done(summary, latency, _)
  local errors = summary.errors
  io.write(string.format(
    'bench-json: {"requests":%d,"duration_us":%d,"p50_us":%d,"p90_us":%d,"p99_us":%d,"max_us":%d,'
      .. '"status":%d,"connect":%d,"read":%d,"write":%d,"timeout":%d}\n',
    summary.requests, summary.duration,
    latency:percentile(50), latency:percentile(90), latency:percentile(99), latency.max,
    errors.status, errors.connect, errors.read, errors.write, errors.timeout
  ))
end
