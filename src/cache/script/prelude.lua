-- What catches errors gives scripts the ones that Redis would have given: those of the functions
-- that are not written in Lua travel wrapped.
local shown, pcall, xpcall, resume = ...
local error, select, type = error, select, type

local function caught(ok, ...)
  if ok then return ok, ... end
  return false, shown(...)
end

-- The text of an error that a command raised: scripts of before 7.0 expect no table here.
local function text_caught(ok, ...)
  if ok then return ok, ... end
  local e = shown(...)
  if type(e) == "table" and type(e.err) == "string" then return false, e.err end
  return false, e
end

return
  function(...) return text_caught(pcall(...)) end,
  function(f, ...)
    if select("#", ...) == 0 then
      error("bad argument #2 to 'xpcall' (value expected)", 2)
    end
    local handler = ...
    return caught(xpcall(f, function(e) return handler(shown(e)) end))
  end,
  function(co, ...)
    if type(co) ~= "thread" then
      error("bad argument #1 to 'resume' (coroutine expected)", 2)
    end
    return caught(resume(co, ...))
  end
