# shellcheck shell=sh disable=SC2034 # zsh reads SAVEHIST and HISTSIZE
# For interactive shells of a workspace (sourced by bash and zsh): they begin in the project, keep a history that outlives the
# container, and say which workspace they are in.
case $- in
    *i*)
        if [ -n "${BASH_VERSION:-}" ] && [ -d "$HOME/.local/state/bash" ]; then
            HISTFILE=$HOME/.local/state/bash/history
            # Each command at once: a container is often ended under its shells.
            PROMPT_COMMAND="history -a${PROMPT_COMMAND:+; $PROMPT_COMMAND}"
        elif [ -n "${ZSH_VERSION:-}" ] && [ -d "$HOME/.local/state/zsh" ]; then
            HISTFILE=$HOME/.local/state/zsh/history SAVEHIST=10000 HISTSIZE=10000
            setopt inc_append_history
        fi
        # Only the first shell: one that is started in a folder stays there.
        if [ -z "${DINDCTL_WORKSPACE_SHELL:-}" ]; then
            export DINDCTL_WORKSPACE_SHELL=1
            if [ "$PWD" = "$HOME" ] && [ -d "${PROJECT_PATH:-}" ]; then
                cd "$PROJECT_PATH" || :
            fi
        fi
        # At each prompt, because the user's own files set it after this one.
        if [ -n "${WORKSPACE_ID:-}" ]; then
            _workspace_prompt() {
                case ${PS1:-} in
                    *"[$WORKSPACE_ID] "*) ;;
                    *) PS1="[$WORKSPACE_ID] ${PS1:-}" ;;
                esac
            }
            if [ -n "${BASH_VERSION:-}" ]; then
                PROMPT_COMMAND="_workspace_prompt${PROMPT_COMMAND:+; $PROMPT_COMMAND}"
            elif [ -n "${ZSH_VERSION:-}" ]; then
                eval 'precmd_functions+=(_workspace_prompt)'
            fi
        fi
        ;;
esac
