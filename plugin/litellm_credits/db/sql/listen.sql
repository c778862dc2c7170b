-- The session that change notifications come by.

-- name: backend
SELECT pg_backend_pid() AS pid;
