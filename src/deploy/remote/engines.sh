# RELEASE MODEL ARGUMENT...: builds the model's engine, if it is not there, with this machine's TensorRT.
release=$prefix/releases/$1 model=$2
shift 2
catseye=$release/usr/bin/catseye
mkdir -p "$prefix/engines"
if ! words=$("$catseye" engine list --engine-dir "$prefix/engines" 2>&1); then
  case $words in *"without TensorRT"*)
    say "unable this catseye was built without TensorRT"
    exit 0
    ;;
  esac
fi
if { "$catseye" engine build "$release/$model" --engine-dir "$prefix/engines" "$@" 2>&1 || echo "failed $?"; } \
  | { failed=; while IFS= read -r line; do case $line in "failed "*) failed=$line ;; *) say "words $line" ;; esac; done; [ -z "$failed" ]; }; then
  say built
else
  say failed
fi
