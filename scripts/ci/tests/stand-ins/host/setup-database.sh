#!/bin/bash
echo 'setup-database: done' >&2
