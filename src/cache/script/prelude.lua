-- What catches errors gives scripts the ones that Redis would have given: those of the functions
-- that are not written in Lua travel wrapped.
local shown, pcall, xpcall, resume, insert, stand_ins, readonly = ...
local error, select, tonumber, type = error, select, tonumber, type

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
  end,
  -- The only function of Lua's that writes to a table of no entries past its metatable.
  function(...)
    local t, at = ...
    local count = select("#", ...)
    if stand_ins[t] then error(readonly, 0) end
    if type(t) ~= "table" then
      local got = count == 0 and "no value" or type(t)
      error("bad argument #1 to 'insert' (table expected, got " .. got .. ")", 2)
    end
    if count == 2 then return insert(t, at) end
    if count ~= 3 then error("wrong number of arguments to 'insert'", 2) end
    if type(at) ~= "number" and not (type(at) == "string" and tonumber(at)) then
      error("bad argument #2 to 'insert' (number expected, got " .. type(at) .. ")", 2)
    end
    return insert(...)
  end
