#!/bin/sh
echo 'setup-database: done' >&2
