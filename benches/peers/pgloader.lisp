;; What the pipeline's cleaning steps do, for pgloader.
(in-package :pgloader.transforms)
(defun trim-lower (text) (when text (string-downcase (string-trim " " text))))
(defun mask-digits (text) (when text (cl-ppcre:regex-replace-all "[0-9]{4,}" text "****")))
