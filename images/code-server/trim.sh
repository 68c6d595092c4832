#!/bin/bash
# Takes out of code-server's folder what a server on this machine never opens, and prints what each part took.
#
#   trim.sh FOLDER
set -euo pipefail
shopt -s nullglob globstar
cd "$1"

# trim WHAT PATH…: removes the paths that are there.
trim() {
    local what=$1 size
    shift
    if (($# == 0)); then
        printf '%6s MB  %s\n' - "$what"
        return
    fi
    size=$(du -cm --apparent-size -- "$@" | tail -n 1 | cut -f 1)
    rm -rf -- "$@"
    printf '%6d MB  %s\n' "$size" "$what"
}

app=app/lib/vscode
trim 'Copilot for the command line' app/**/node_modules/@github/copilot-sdk-* app/**/node_modules/@github/copilot-linux* app/**/node_modules/@github/copilot
trim 'mxc SDK' app/**/node_modules/@microsoft/mxc-sdk
trim 'source maps' app/**/*.map
trim 'objects of native modules' app/**/build/Release/obj.target app/**/build/Release/obj app/**/build/Release/.deps
trim 'sources of native modules' app/**/node_modules/**/deps/sqlite3 app/**/node_modules/node-pty/deps app/**/node_modules/node-pty/third_party
trim 'ripgrep for other machines' app/**/@vscode/ripgrep-universal/bin/{darwin,win32}-* app/**/@vscode/ripgrep*/bin/*{darwin,win32}*
trim 'TypeScript sources' $app/node_modules/**/*.ts
strip --strip-unneeded bin/node
