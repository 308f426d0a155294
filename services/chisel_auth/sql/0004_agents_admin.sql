-- Admins who logged in before there was anything to do with agents may do it all the same.
update api_keys set scopes = array_append(scopes, 'agents:admin')
where 'accounts:admin' = any(scopes) and not 'agents:admin' = any(scopes);
